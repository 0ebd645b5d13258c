"""A page on this machine alone, on which an operator sees lists, reasons, and a policy's effect.

`answers` is what it says; `guard` who may ask; `app` puts both behind HTTP; `run` is the command.
The page itself is static: it holds nothing of anybody, and what it shows comes as JSON.
"""
