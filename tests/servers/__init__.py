"""Servers on loopback for tests and benchmarks, each on a free port, ended with whoever started it.

keeper.py   a program that is killed when its starter ends, however that ends
weed.py     SeaweedFS, for S3
nginx.py    nginx, for HTTP; its log counts requests
ports.py    free ports of loopback
faulty.py   an HTTP server in this process that does what servers should not; it counts requests and connections
delay.py    a TCP proxy that adds latency
"""
