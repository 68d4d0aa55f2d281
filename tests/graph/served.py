"""The graph that the server's test serves: a scripted team, whose second and later pipelines train for a while."""

from graph.build import build_graph
from nodes.services import Services
from tests.scripted import TRAINING, ScriptedTeam

SLOW = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trained = fit(model, loaders.train, loaders, info, log, epochs=1, optimizer=optimizer)
    for epoch in range(2, 42):
        time.sleep(0.1)
        log(epoch, train_loss=1.0 / epoch)
    return trained
"""
QUICK = TRAINING.replace("epochs=1", "epochs=2")

TEAM = ScriptedTeam([("training", [SLOW]), *(("training", [QUICK + "\n" * n]) for n in range(6))])
graph = build_graph(Services(team=lambda *_: TEAM)).compile(name="improve")
