"""Sound: in through PyAV or from a host, to features, to windows of them for each video frame; the audio clock.

    files and streams, pipes, hosts   source.py, pipe.py, pcm.py    mono float32 at the model's rate
      -> rows of mel bands            mel.py, stream.py             what an encoder or a generator was trained on
      -> vectors of an encoder        encoders.py, network.py       one model session
      -> one array a video frame      windows.py, conditions.py     which vectors belong to frame n
    clock.py says which frame a sample belongs to; speech.py whether anybody speaks, and how clean the sound is;
    shapes.py keeps DH_live's mouth shapes within what a mouth can do.

    sound = PcmInput(48000, 2, to_rate_hz=16000)
    conditions = Conditions(load_contract("wav2lip_96"), Fraction(25))
    gate = SpeechGate(conditions.clock)
    samples = sound.push(pcm)
    arrays, speaks = conditions.push(samples), gate.push(samples)  # frames in order, none left out

Every class takes sound in pieces of any size and gives the same values for all of them. `flush` ends a sound, `reset`
breaks it off; either way the next sample is the first of another one.
"""
