"""The settings of the worker: which there are (`environment`), and what their values must be (`values`).

They come from the environment alone and are read once, at start.
"""

from worker.settings.environment import Settings, WrongSetting, read_settings

__all__ = ["Settings", "WrongSetting", "read_settings"]
