"""Where the trainings of an experiment run: a module here is a launcher, found by its name.

A module defines ``LAUNCHER``, a subclass of ``missu_nnunet.experiments.launcher.Launcher``, and imports what only
it needs when it is used.
"""
