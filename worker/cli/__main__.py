"""`python -m worker.cli`: the same as `room-worker`. The supervisor starts its halves with it."""

from worker.cli.main import main

main()
