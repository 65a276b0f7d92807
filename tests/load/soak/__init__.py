"""Random faults for as long as asked, judged."""
