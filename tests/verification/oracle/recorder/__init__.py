"""The recorder: records a run of the worker from outside, from the broker, the streams and the database.

It imports nothing of the worker but the subjects. The checks read the recording and never a server.
"""

from tests.verification.oracle.recorder.recorder import Recorder, recorder

__all__ = ["Recorder", "recorder"]
