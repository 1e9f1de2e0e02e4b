"""The reader study: can readers tell synthetic radiographs from real ones?

A study is a folder: `plan.json` (what is shown to whom, and the truth), `images/`, `answers/`. The
plan is drawn once and never changes; answers are only ever appended.
"""
