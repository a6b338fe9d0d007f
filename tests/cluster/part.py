"""tests/cluster/part.py: devices in a process of their own, for more than one process can hold.

    async with Part(devices, seed) as part:                 # connected
        await part.wait("opened_since", time.monotonic(), seconds=30)
        await part.tell_all(history)

With publish=(name, urls, groups, batch, pause_s) there is also a publisher, and what it measures
is not slowed down by what else the tests do: the way of a message begins and ends in one process.

Run as a program it is that process: pickled orders come on stdin, pickled answers go to stdout.
An order is (name, arguments); an answer is (what was wrong, or None, and a value).
"""

import asyncio
import gc
import os
import pickle
import subprocess
import sys

from fleet import Fleet
from history import History, Opened
from publisher import ByHttp, Publisher, Publishers

ANSWER_S = 90  # an order that takes longer has hung


class Part:
    def __init__(self, devices, seed=1, connect_s=60, publish=None, wrapper=()):
        """wrapper: a command in front, such as nice: the devices stand for other machines."""
        self._first = devices, seed, connect_s, publish
        self._command = [*wrapper, sys.executable, __file__]
        self._process = None

    async def __aenter__(self):
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for who started it
        )
        try:
            await self._ask(*self._first)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        """The devices leave when there are no more orders."""
        self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()
        self._process.wait()

    async def wait(self, condition, value, seconds):
        """Waits until it holds for every device; raises TimeoutError."""
        wrong, _ = await self._ask("wait", condition, value, seconds)
        if wrong is not None:
            raise TimeoutError(wrong)

    async def catch_up(self, marks, seconds):
        wrong, _ = await self._ask("catch_up", marks, seconds)
        if wrong is not None:
            raise TimeoutError(wrong)

    async def published_to_all(self):
        """Waits until each group has had a message."""
        await self._ask("published_to_all")

    async def stop(self):
        """Ends the publisher; returns its marks."""
        return (await self._ask("stop"))[1]

    async def tell_all(self, history):
        """What happened here becomes a part of history."""
        mine = (await self._ask("history"))[1]
        history.clients.update(mine.clients)
        history.asked.update(mine.asked)
        history.asked_at.update(mine.asked_at)
        history.acked += mine.acked

    async def _ask(self, *order):
        def exchange():
            pickle.dump(order, self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)

        try:
            return await asyncio.wait_for(asyncio.to_thread(exchange), ANSWER_S)
        except (EOFError, BrokenPipeError):
            raise RuntimeError("a process of devices has ended; see above") from None


# ---- The process -----------------------------------------------------------------------------


def opened_since(at):
    """Welcomed at that time or later, and connected."""

    def holds(device):
        opened = (event.at for event in reversed(device.events) if isinstance(event, Opened))
        return device.open and next(opened) >= at

    return holds


CONDITIONS = {"opened_since": opened_since}


class Orders:
    """What may be asked of this process."""

    def __init__(self, fleet, publishers, history):
        self._fleet = fleet
        self._publishers = publishers
        self._history = history

    async def wait(self, condition, value, seconds):
        holds = CONDITIONS[condition](value)
        await self._fleet.wait(holds, seconds, f"{condition}: within {seconds} s")

    async def catch_up(self, marks, seconds):
        await self._fleet.catch_up(marks, seconds)

    async def published_to_all(self):
        for each in self._publishers.publishers:
            while len(each.marks) < len(each.groups):
                await asyncio.sleep(0.02)

    async def stop(self):
        return await self._publishers.stop()

    async def history(self):
        self._history.clients = {device.name: device.events for device in self._fleet.devices}
        return self._history


async def serve():
    read = lambda: asyncio.to_thread(pickle.load, sys.stdin.buffer)

    def tell(wrong, value=None):
        pickle.dump((wrong, value), sys.stdout.buffer)
        sys.stdout.buffer.flush()

    devices, seed, connect_s, publish = await read()
    history, made = History(), []
    if publish is not None:
        name, urls, groups, batch, pause_s = publish
        made = [Publisher(name, ByHttp(urls), history, groups, batch, pause_s)]
    async with Fleet(devices, seed, connect_s) as fleet:
        gc.freeze()  # looking through all devices takes longer than a message
        async with Publishers(made) as publishers:
            orders = Orders(fleet, publishers, history)
            tell(None)
            while True:
                try:
                    name, *arguments = await read()
                except EOFError:
                    await publishers.stop()
                    return
                try:
                    tell(None, await getattr(orders, name)(*arguments))
                except TimeoutError as late:
                    tell(str(late))


if __name__ == "__main__":
    asyncio.run(serve())
