"""Takes the schema to a database that is in use: so far by an audit, which reads and changes nothing."""
