"""The applications and agents that the command line names."""


def add_accounts(store, clients, users):
    """``clients``: (id, secret, scopes or None); ``users``: (name, password).
    Applications log in as the first agent of the base data."""
    first = min(store.table("Agent"))
    for client_id, secret, scopes in clients:
        store.put("Application", {
            "id": store.next_id("Application"), "client_id": client_id,
            "client_secret": secret, "kind": "services",
            "scopes": (scopes or "all").split(), "agent_id": first})
    for name, password in users:
        store.put("Agent", {
            "id": store.next_id("Agent"), "name": name, "username": name,
            "password": password, "email": name + "@example.com"})
