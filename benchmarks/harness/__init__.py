"""What the scenarios run on: servers, rooms, workers as processes, and the recorder."""
