"""What every scenario uses: servers, rooms, workers as processes, and the recorder."""
