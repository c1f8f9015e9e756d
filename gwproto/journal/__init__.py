"""Journals: what came into a gateway, written down so that it can be fed to fresh machines again.

A :class:`~gwproto.journal.recording.Recorder` stands before a gateway and notes every input with the commands it
caused. A :class:`~gwproto.journal.scribe.Scribe` makes lines of the notes, :mod:`~gwproto.journal.redaction` takes what
people said out of them, and a :class:`~gwproto.journal.replaying.Replay` reads them and says where the machines now do
something else.
"""
