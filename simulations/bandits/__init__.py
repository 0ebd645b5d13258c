"""Explore and exploit, simulated: new users and new items at a site that learns from its lists.

`warm` is what a finished run knows; `world` one seed's users, new items and what users take;
`loop` shows lists and learns; `choosing` picks settings on validation worlds; `measuring` runs the
reported worlds; `page` writes them down.
"""
