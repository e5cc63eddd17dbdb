"""The `study` command: one configuration, some of its keys swept, several seeds; how utility pays for privacy.

STUDY.yaml → sweep.py: a point for each combination and seed, each a configuration of its own
  grid_point.py: the whole job → points/DIGEST/{run/, result.json} (kept, so it can go on)
  frontier.py: means and intervals by combination, and which no other beats
→ study.json, study.html

Nothing is imported here, so that a study file can be read before what is heavy is imported.
"""
