"""Commands for whoever runs the service: who did what, and whether all is well."""
