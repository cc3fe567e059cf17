"""Machines: physical memory, units and the devices behind them."""

from hitless.machine.inmemory import Machine, TableMemory

__all__ = ["Machine", "TableMemory"]
