"""The steps that make something go wrong, or right again."""

from __future__ import annotations

from typing import Final

import trio

from dmsg_trio._net.session import Session
from dmsg_trio._wire.objects import SignedObject, StreamRequest
from dmsg_trio.server import Server
from dmsg_trio.server._asking import Answer

from .facts import Health, Life
from .parties import CLIENTS, SERVERS
from .scene import Scene
from .steps import (
    Cut,
    DelayDiscovery,
    DelayReplies,
    Drain,
    EndTwin,
    FindDiscovery,
    Heal,
    Leave,
    Lie,
    LoseDiscovery,
    LosePower,
    Move,
    Return,
    Silence,
    SlowDown,
    Start,
    Step,
    Stop,
    Tell,
    TellTruth,
    Twin,
)

MAX_DRAINS: Final = 2  # of one server: clients leave one alone for long that sends them away often


class Faults:
    """Takes these steps in one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._drains: dict[str, int] = {}

    async def take(self, step: Step) -> None:
        scene, world = self._scene, self._scene.world
        match step:
            case Start() | Stop() | Drain() | DelayReplies():
                world.last_fault = trio.current_time()
                await self._do_with_server(step)
            case Leave() | LosePower() | Return() | Twin() | EndTwin():
                await self._do_with_client(step)
            case Cut(a, b):
                self._harm(a, b, Health.CUT)
            case Silence(a, b):
                self._harm(a, b, Health.SILENT)
            case Heal(a, b):
                scene.heal(a, b)
            case SlowDown(a, b, latency):
                scene.slow_down(a, b, latency)
            case Move(client, servers):
                for server in SERVERS:
                    if server in servers:
                        scene.heal(client, server)
                    else:
                        self._harm(client, server, Health.CUT)
            case Tell(client, what):
                world.lies[client] = what
                if what is Lie.A_SERVER:
                    world.said_servers.add(client)  # who publishes anew keeps what is said beside
                world.last_fault = trio.current_time()
            case TellTruth(client):
                world.lies.pop(client, None)
                world.last_fault = trio.current_time()
            case LoseDiscovery():
                world.discovery_is_up = False
                world.last_fault = trio.current_time()
            case FindDiscovery():
                world.discovery_is_up, world.discovery_delay = True, 0.0
            case DelayDiscovery(seconds):
                world.discovery_delay = seconds
                world.last_fault = trio.current_time()

    # ---- servers ----

    async def start_server(self, name: str) -> None:
        server = await self._scene.start_server(name)
        slow_down_replies(self._scene, name, server)

    async def _do_with_server(self, step: Start | Stop | Drain | DelayReplies) -> None:
        scene, name = self._scene, step.server
        server, life = scene.server(name), scene.world.life
        match step:
            case Start():
                if life[name] is Life.DOWN and scene.world.discovery_is_up:
                    await self.start_server(name)
            case Stop():
                if server:
                    life[name] = Life.DOWN
                    scene.lose(lambda kept: name in kept.path)
                    await scene.network.stop_server(server)
            case Drain():
                if server and not server.is_draining and self._drains.get(name, 0) < MAX_DRAINS:
                    self._drains[name] = self._drains.get(name, 0) + 1
                    life[name] = Life.LEAVING
                    scene.lose(lambda kept: name in kept.path)
                    server.drain()
            case DelayReplies():
                scene.world.replies[name] = step.seconds

    # ---- clients ----

    async def _do_with_client(self, step: Leave | LosePower | Return | Twin | EndTwin) -> None:
        scene, world, name = self._scene, self._scene.world, step.client
        if not isinstance(step, Twin | EndTwin):
            world.last_fault = trio.current_time()
        is_there = name in scene.holders
        match step:
            case Leave() if is_there:
                self._forget(name)
                await scene.end_client(name, scene.holders)
            case LosePower() if is_there:
                self._forget(name)
                scene.network.cut_power(scene.holders[name].client)
                await scene.end_client(name, scene.holders)
            case Return() if not is_there:
                scene.contested.add(name)
                await scene.start_client(name, scene.holders)
            case Twin() if name not in scene.twins:
                scene.contested.add(name)
                world.twinned.add(name)
                await scene.start_client(name, scene.twins)
            case EndTwin() if name in scene.twins:
                scene.lose(lambda kept: scene.twins[name] in kept.holders)
                await scene.end_client(name, scene.twins)
                world.twinned.discard(name)

    def _forget(self, name: str) -> None:
        self._scene.world.forget_all_of(name)
        self._scene.lose(lambda kept: self._scene.holders[name] in kept.holders)

    # ---- lines ----

    def _harm(self, a: str, b: str, health: Health) -> None:
        if {a, b}.isdisjoint(CLIENTS):
            self._scene.world.last_fault = trio.current_time()
        self._scene.harm(a, b, health)


def slow_down_replies(scene: Scene, name: str, server: Server) -> None:
    """Let what a server says to requests take its time: the request has done its work by then."""
    asker = server._relay._asker
    ask_all = asker.ask_all

    async def ask_and_wait(
        ways: list[Session], signed: SignedObject, request: StreamRequest
    ) -> Answer | None:
        answer = await ask_all(ways, signed, request)
        said = False
        try:
            await trio.sleep(scene.world.replies.get(name, 0.0))
            said = True
        finally:
            if answer and not said:
                answer.drop()
        return answer

    setattr(asker, "ask_all", ask_and_wait)  # noqa: B010 - a method, and only of this one
