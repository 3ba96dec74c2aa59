import uuid
from datetime import UTC, datetime

from tests.helpers import Api


def test_a_create_answers_at_once_with_the_whole_pending_entry(api: Api) -> None:
    answer = api.post("/create-gate", {"name": "sample_name"})
    entry = answer.json()
    assert answer.status_code == 201
    assert answer["Content-Type"] == "application/json"
    assert answer["Location"] == f"/poll-gate/{entry['id']}"
    assert int(answer["Retry-After"]) >= 1
    assert uuid.UUID(entry["id"]).version == 4
    created = datetime.fromisoformat(entry.pop("created_at"))
    assert abs((datetime.now(UTC) - created).total_seconds()) < 10
    assert entry == {
        "id": entry["id"], "kind": "gate", "name": "sample_name", "status": "pending", "file_path": "",
        "input": {}, "progress": 0, "message": "", "result": None, "error": None, "attempt": 0, "version": 1,
        "started_at": None, "finished_at": None, "expires_at": None,
    }  # fmt: skip
