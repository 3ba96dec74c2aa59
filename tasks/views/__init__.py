"""The endpoints: validate, call, answer."""
