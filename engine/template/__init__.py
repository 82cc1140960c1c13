"""Prepared templates: everything of a presenter's video that does not depend on what is said, found once and kept.

    a video        prepare.py    the map; needs.py: networks and rule of a profile, as one key
      -> sightings survey.py     find.py in every picture that retime.py shows, in chunks.py that survive a kill
      -> a person  people.py     one of several, found again after an absence
      -> crops     layout.py     crops.py: a contract's rule; smooth.py: still faces rest, without lag
      -> a folder  folder.py     one manifest, one file of arrays, checked by hash when it is opened
      -> frames    frames.py     the original file's own pictures, in any order (seek.py); order.py: which is next

    template = open_template("T.mp4", load_profile("lipsync_720p25"))
    order = FrameOrder(template.count, template.idle)
    with TemplateFrames(template) as frames:
        picture = frames.read(order.next(speaks=True))

Frame numbers are those of the model's rate (`Template.rate`), not of the file; `Template.source_frame` maps them.
"""
