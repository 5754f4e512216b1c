"""Asynchronous loading: from wishes to tiles in memory, without ever blocking a frame. No OpenGL here.

The way of a wish:  loader → schedule (delay_queue) → pool (a worker reads) → loader → cache

values.py      the values that cross threads, the states of a load and their one transition function
loader.py      TileLoader: owners, plans, what arrives; the only thing that the frame loop talks to
wishes.py      who wishes which tiles (pure book-keeping)
stats.py       what the loader counts
batches.py     tiles of the same chunks, read together
load.py        one load on its way, and its cancel token
schedule.py    what to start, give up, try again, and who has the link: one state machine for both clocks (pure)
delay_queue.py what is queued: due first, then by rank
pool.py hands.py        the schedule's driver in real time: threads, keyed by levels above the ideal one; what each has in hand
simulated.py   its driver in virtual time: a discrete-event simulation
reading.py     how a tile is read, and when to try again
processes.py process_worker.py      reading in other processes, arrays through shared memory
cache.py       TileCache: byte budget, least recently used first, pins
clock.py       the real clock and the virtual one
network.py     simulated latency, bandwidth, jitter, failures, hangs; seeded by tile
guard.py       counts reads by thread: none on the main thread is measured, not assumed
load_log.py    a readable line for each load and plan
"""
