"""Queues whose other end is gone: what was meant for it is counted, and nobody else waits."""

import msgpack
import zmq

from metrics import read_metrics
from peal import wait_until

CALLS = 300
CONFIG = {"groups": [{"match": "user:{id}", "durable": True}, {"match": "*"}]}


def call(number, **message):
    return msgpack.packb({"op": "publish", "req": number, "messages": [message]})


def test_answers_to_who_is_gone_are_dropped_and_counted_and_others_get_theirs(start_peal):
    router = start_peal(CONFIG, verb="router")
    context = zmq.Context()
    try:
        gone = context.socket(zmq.DEALER)
        gone.connect(router.doors["rpc"])
        for number in range(CALLS):
            gone.send(call(number, user="ann", data=number))
        gone.close(linger=30000)  # all of it leaves, and then the connection ends
        stays = context.socket(zmq.DEALER)
        stays.setsockopt(zmq.RCVTIMEO, 30000)
        stays.connect(router.doors["rpc"])
        stays.send(call(1, user="bob", data=1))
        assert msgpack.unpackb(stays.recv())["results"][0]["ack"] == "stored"
        wait_until(
            lambda: read_metrics(router)["peal_publishes_numbered_total"] == CALLS + 1,
            "a call that had arrived was not taken",
        )
        wait_until(
            lambda: read_metrics(router)["peal_router_replies_dropped_total"] > 0,
            "no answer was dropped",
        )
        stays.send(call(2, user="bob", data=2))
        assert msgpack.unpackb(stays.recv())["results"][0]["offset"] == 2
        stays.close(linger=0)
    finally:
        context.destroy(linger=0)
