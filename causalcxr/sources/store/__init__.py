"""A store: the radiographs of a cohort as plain arrays that are mapped into memory.

It is a folder with shards of uint16 images (`shards`), a table of the records in parquet (`index`)
and a manifest (`layout`). `writing.write` and `building.build` write a store, `reading` opens it
as a cohort, and `loading` reads its batches for torch.
"""
