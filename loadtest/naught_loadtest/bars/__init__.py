"""The measurements behind `naught-loadtest bars`: one module for each group of bars.

A bar is a figure that naught should reach, most often a ratio to another program measured in the same run. Each
group has a function that takes a `Bench` and returns its `Bar` objects, both defined in `bars.bar`. `commands.bars`
lists the groups and prints what they return.

The package imports nothing, so that the programs in `bars.peers` load only what they measure.
"""
