"""What every systemd unit of fedrec takes from its process: rights that it never needs.

No unit says `MemoryDenyWriteExecute`: PyTorch's kernels are compiled while they run. The site
agent keeps its devices, because one of them may be a GPU.
"""

from __future__ import annotations

HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
PrivateTmp=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM"""

WITHOUT_DEVICES = f"""\
{HARDENING}
PrivateDevices=yes
ProtectClock=yes"""
