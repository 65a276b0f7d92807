"""Progress on the terminal."""

import time


def say(text: str) -> None:
    """Print the time and what is being measured."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
