"""Timings, always as ratios measured in one run. (Opacus installs a package of this name.)"""
