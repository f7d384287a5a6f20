"""What a command line may ask for before anything runs: to repeat a past run, to estimate the cost (`plan=true`), or
a sweep whose results are all stored."""
