"""Recommendations at the site: lists, reasons and feedback, none of which leaves it.

`histories` is who has had what; `catalogue` the items, new ones among them; `served` an adapter
ready to answer; `list_policy` the choice of a list among scored candidates; `feedback` what users
did, durably; `recommending` answers; `rpc`, `service`, `server` put it behind gRPC; `swapping`
follows the site's current adapter.
"""
