"""The rendered world: scenes of objects made of named parts, whose true concepts are known.

In: the tables of `assets/world` (`tables`), a split, an index and a seed. `sampling` plans which parts a scene shows,
under the split's `conditions` and within its `combinations`; `render` draws the plan from `shapes` before a
`background`. Out: a `scene.Scene` with its class, descriptors and part masks; `export` writes scenes as files.
"""
