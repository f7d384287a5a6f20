"""One run: building its stages from a config, executing them, its folder, its configuration and its provenance.
(Not `run`, which is the function that `import rebuttal` offers.)"""
