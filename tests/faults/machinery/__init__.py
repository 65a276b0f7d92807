"""What injects faults: kills, stops, traps on the wire, clocks, and the scenario they hit."""
