"""A store: the radiographs of a cohort as plain arrays, read in any order at the speed of memory.

A folder of uint16 arrays that are mapped into memory (`shards`), a table of the records in parquet
(`index`) and a manifest (`layout`). `write` and `build` make one, `reading` opens it as a cohort,
`loading` gives its batches to torch.
"""
