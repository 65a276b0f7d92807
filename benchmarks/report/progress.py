"""Progress, for whoever watches."""

import time


def say(text: str) -> None:
    """Say what is being done, and when."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
