"""A site's own source of data, read, checked, pseudonymised and put into the site's folder.

``source.toml`` says where the data lie (`settings`, `settings_file`); `reading` opens CSV,
Parquet or SQL and yields batches; `columns`, `times`, `filters` and `text_template` check and
convert them without ever showing a value; `pseudonyms` replaces the users' ids at the door;
`staging` sorts and merges on disk; `versions` replaces the site's tables as one set; `refresh`
is the whole way, `preview` its first ten rows.
"""
