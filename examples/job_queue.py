"""A job queue in SQLite, with workers in several processes: fair to customers, and gentle to a service.

    naught-server &
    python examples/job_queue.py

The jobs are rows of a table, because they must survive a restart. What is true only at the moment is counted:

- `running:CUSTOMER`: at most two jobs of a customer run at a time, so nobody takes all workers;
- `service`: at most three calls of a service at a time, in all processes;
- `jobs:BATCH`: how many jobs of a batch are left. At zero, the waiter for the batch goes on.

The first two are held: if a worker is killed, they come back.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import tempfile

import naught

URL = os.environ.get("NAUGHT_URL", "naught://localhost:6480")
CUSTOMERS = ("ann", "ben", "cho")
JOBS_EACH = 5
WORKERS = 3


def open_queue(path: str) -> sqlite3.Connection:
    """The table of jobs."""
    queue = sqlite3.connect(path, timeout=30, isolation_level=None)
    queue.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, customer TEXT, worker INTEGER)")
    return queue


def claim(queue: sqlite3.Connection, customer: str) -> int | None:
    """The next job of a customer, which is this worker's from now on."""
    row = queue.execute(
        "UPDATE jobs SET worker = ? WHERE id ="
        " (SELECT id FROM jobs WHERE customer = ? AND worker IS NULL ORDER BY id LIMIT 1) RETURNING id",
        (os.getpid(), customer),
    ).fetchone()
    return None if row is None else int(row[0])


async def work(path: str) -> None:
    """One worker: until there is no job left that it could claim."""
    queue = open_queue(path)
    async with naught.connect(URL) as counters:
        while waiting := [row[0] for row in queue.execute("SELECT DISTINCT customer FROM jobs WHERE worker IS NULL")]:
            for customer in waiting:
                permit = await counters.semaphore(f"running:{customer}", limit=2).try_acquire()
                if permit is None:
                    continue  # two of them run already: the next customer
                async with permit:
                    job = claim(queue, customer)
                    if job is not None:
                        await run(counters, job)
            await asyncio.sleep(0.01)
    queue.close()


async def run(counters: naught.Client, job: int) -> None:
    """Do one job."""
    async with counters.semaphore("service", limit=3):
        await asyncio.sleep(0.02)  # the call of the service
    await counters.wait_group("jobs:1").done()


def start_worker(path: str) -> None:
    """The main function of a worker's process."""
    asyncio.run(work(path))


async def main() -> None:
    """Put jobs into the queue, start workers, and wait for the batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "jobs.db")
        queue = open_queue(path)
        async with naught.connect(URL) as counters:
            batch = counters.wait_group("jobs:1")
            await batch.add(len(CUSTOMERS) * JOBS_EACH)  # before a worker can have done one
            queue.executemany("INSERT INTO jobs (customer) VALUES (?)", [(each,) for each in CUSTOMERS * JOBS_EACH])
            spawn = multiprocessing.get_context("spawn")
            workers = [spawn.Process(target=start_worker, args=(path,)) for _ in range(WORKERS)]
            for worker in workers:
                worker.start()
            finished = await batch.wait(timeout=60)
            for worker in workers:
                worker.join()
            left = await counters.count("running:") + await counters.get("service")
        (done,) = queue.execute("SELECT count(*) FROM jobs WHERE worker IS NOT NULL").fetchone()
        queue.close()
    print(f"{done} jobs done by {WORKERS} workers, in time: {finished}, held: {left}")


if __name__ == "__main__":
    asyncio.run(main())
