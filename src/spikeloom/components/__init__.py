"""What a recipe chooses by name, one file for each kind: optimizers, schedules, protocols, losses,
changes of training samples, callbacks.

Each is a class with its own keys that registers itself (`config.section.register`); one of another
package looks the same. The files load no torch before something is built.
"""
