"""The operator: it keeps the `CounterCache` resources of a Kubernetes cluster as they are asked for.

It changes what can change while the server runs, restarts a server only where no counter is lost by it, and lets an
alert raise the sweeper's budget for a while. `docs/operator.md` says how it is used. Nothing in `naught` or
`naught_server` imports it; it needs the optional extra `operator`.

    spec.py       what a resource asks for             objects.py  the objects it becomes
    settings.py   the server's file, what is live      compare.py  whether an object is as it should be
    live.py       what to set and what to give back      pods.py     what a pod is like, why it is restarted
    rolling.py    whether a restart would lose counters
    alerts.py     what Alertmanager sends                raising.py  until when the budget is raised
    status.py     what the status says                 request.py  HTTP as far as alerts need it
    reconcile.py  the order of all these, for one resource: reads, decides, writes

    cluster.py    the API of Kubernetes                server.py   a naught server
    webhook.py    the port for Alertmanager            handlers.py the kopf handlers
    base.py       the manifests on the disk            run.py      the process

The first three groups read no clock and open no socket; only `reconcile.py` awaits, what it is given. The last group
is adapters.
"""
