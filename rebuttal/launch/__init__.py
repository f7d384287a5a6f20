"""The jobs of a sweep: expanding the command line into jobs, running one, watching all, GPU slots, and waiting for
SLURM. Hydra's launchers start the processes; nothing here schedules jobs."""
