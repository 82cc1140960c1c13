"""Sound: in through PyAV or from a host, to features, to windows of them for each video frame; the audio clock.

    sound (file, stream, PCM)      source.py, pcm.py   mono float32 at the model's rate
      -> rows of mel bands         mel.py, stream.py   what the encoder or generator was trained on
      -> vectors of an encoder     encoders.py         one model session
      -> one array a video frame   windows.py          which vectors belong to frame n, by clock.py
    speech.py says meanwhile whether anybody speaks, and how clean the sound is.

Every class takes sound in pieces of any size and gives the same values for all of them; state is of fixed size.
"""
