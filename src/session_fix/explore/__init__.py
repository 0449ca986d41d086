"""Every order of concurrent calls: schedules, runs and what they came to."""
