"""``inference-engine doctor``: what a person would look at by hand when something is wrong, with the remedy beside it.

    command ──▶ examination ──▶ one module per subject: facts of this machine ──▶ findings ──▶ report
                     └── probes: child processes with a time limit, so that a hanging driver cannot hang the rest

What a finding says is decided by pure functions over plain facts; only the last lines of each module read the machine.
"""
