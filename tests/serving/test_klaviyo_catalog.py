"""The official Klaviyo client, unmodified, writes the catalogue and reads it again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from klaviyo_api import KlaviyoAPI

from tests.serving.small import Server, running
from tests.serving.test_klaviyo_live import client_of, soon

PREFIX = "$custom:::$default:::"


def item(code: str, **told: object) -> dict:
    attributes = {
        "external_id": code, "title": f"A {code}", "url": "https://x.example",
        "description": "as told", **told,
    }  # fmt: skip
    return {"data": {"type": "catalog-item", "attributes": attributes}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("catalogue") / "work") as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    api = client_of(server)
    for number in range(5):
        made = api.Catalogs.create_catalog_item(item(f"SKU{number}", price=2.5 * number))
        assert made.data.id == f"{PREFIX}SKU{number}"
    with server.client() as client:
        client.post("/v1/events", json={"kind": "item", "item": "mug", "title": "Mug", "stock": 3,
                                        "category": "kitchen", "brand": "Ton"})  # fmt: skip
    soon(lambda: len(api.Catalogs.get_catalog_items().data) == 6)
    return api


def codes(api: KlaviyoAPI, **asked: object) -> list[str]:
    return [one.attributes.external_id for one in api.Catalogs.get_catalog_items(**asked).data]


def test_items_are_read_as_they_were_told(api: KlaviyoAPI) -> None:
    one = api.Catalogs.get_catalog_item(f"{PREFIX}SKU2").data
    assert (one.attributes.title, one.attributes.price) == ("A SKU2", 5.0)
    assert one.attributes.published is True
    mug = api.Catalogs.get_catalog_item(f"{PREFIX}mug").data
    assert mug.attributes.custom_metadata == {"brand": "Ton"}
    with pytest.raises(Exception, match="does not exist"):
        api.Catalogs.get_catalog_item(f"{PREFIX}nothing")
    variant = api.Catalogs.get_catalog_variant(f"{PREFIX}mug").data
    assert variant.attributes.inventory_quantity == 3
    assert len(api.Catalogs.get_catalog_variants().data) == 6


def test_the_catalogue_is_paged_filtered_and_sorted(api: KlaviyoAPI) -> None:
    assert codes(api) == ["SKU0", "SKU1", "SKU2", "SKU3", "SKU4", "mug"]
    assert codes(api, sort="-created") == codes(api, sort="created")[::-1]
    for sort in (None, "created", "-created"):
        asked = {} if sort is None else {"sort": sort}
        page = api.Catalogs.get_catalog_items(page_size=4, **asked)
        more = api.Catalogs.get_catalog_items(page_size=4, page_cursor=page.links.next, **asked)
        assert more.links.next is None
        assert len({one.id for one in (*page.data, *more.data)}) == 6
    assert codes(api, filter=f'any(ids,["{PREFIX}SKU1","{PREFIX}none"])') == ["SKU1"]
    assert codes(api, filter='contains(title,"sku")') == ["SKU0", "SKU1", "SKU2", "SKU3", "SKU4"]
    assert codes(api, filter=f'equals(category.id,"{PREFIX}kitchen")') == ["mug"]
    with pytest.raises(Exception, match="true or false"):
        codes(api, filter='equals(published,"yes")')


def test_categories_are_those_that_items_are_in(api: KlaviyoAPI) -> None:
    (one,) = api.Catalogs.get_catalog_categories().data
    assert (one.id, one.attributes.name) == (f"{PREFIX}kitchen", "kitchen")


def test_what_is_changed_or_deleted_is_read_so_at_once(api: KlaviyoAPI) -> None:
    made = api.Catalogs.create_catalog_item(item("gone")).data
    change = {"data": {"type": "catalog-item", "id": made.id, "attributes": {"title": "Gone"}}}
    api.Catalogs.update_catalog_item(made.id, change)
    soon(lambda: codes(api, filter='contains(title,"Gone")'))
    assert "gone" in codes(api, filter="equals(published,true)")
    api.Catalogs.delete_catalog_item(made.id)
    soon(lambda: codes(api, filter="equals(published,false)") == ["gone"])


def test_categories_are_told_of_before_items_are_in_them(api: KlaviyoAPI) -> None:
    def category(external: str, name: str, **more: str) -> dict:
        told = {"external_id": external, "name": name}
        return {"data": {"type": "catalog-category", "attributes": told, **more}}

    made = api.Catalogs.create_catalog_category(category("MUGS", "Mugs"))
    assert made.data.id == f"{PREFIX}MUGS"
    with pytest.raises(Exception, match="There is a category of that id already"):
        api.Catalogs.create_catalog_category(category("MUGS", "Cups"))
    inside = item("enamel")
    inside["data"]["relationships"] = {
        "categories": {"data": [{"type": "catalog-category", "id": made.data.id}]}
    }
    api.Catalogs.create_catalog_item(inside)
    soon(lambda: codes(api, filter=f'equals(category.id,"{made.data.id}")') == ["enamel"])
    renamed = {"data": {"type": "catalog-category", "id": made.data.id,
                        "attributes": {"name": "All mugs"}}}  # fmt: skip
    api.Catalogs.update_catalog_category(made.data.id, renamed)
    assert api.Catalogs.get_catalog_category(made.data.id).data.attributes.name == "All mugs"
    api.Catalogs.create_catalog_category(category("EMPTY", "Nothing yet"))
    names = {one.attributes.external_id: one.attributes.name
             for one in api.Catalogs.get_catalog_categories().data}  # fmt: skip
    assert (names["MUGS"], names["EMPTY"]) == ("All mugs", "Nothing yet")
    for external in ("MUGS", "EMPTY"):
        api.Catalogs.delete_catalog_category(f"{PREFIX}{external}")
    assert api.Catalogs.get_catalog_category(made.data.id).data.attributes.name == "MUGS"
    with pytest.raises(Exception, match="does not exist"):
        api.Catalogs.get_catalog_category(f"{PREFIX}EMPTY")


@pytest.mark.parametrize(
    "told", [{}, {"external_id": "x"}, {"external_id": "", "name": "x"}, {"external_id": [1]},
             {"external_id": "x", "name": ""}, {"external_id": "x", "name": 7}],
)  # fmt: skip
def test_a_category_that_is_none_is_refused(server: Server, told: dict) -> None:
    body = {"data": {"type": "catalog-category", "attributes": told}}
    with server.client() as client:
        refused = client.post("/api/catalog-categories", json=body)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["source"]["pointer"].startswith("/data/attributes/")


def done(job: Callable[[], Any]) -> Any:
    """What a job did, as soon as it is complete."""
    soon(lambda: job().attributes.status == "complete")
    return job().attributes


def test_many_items_are_written_by_one_job(api: KlaviyoAPI) -> None:
    told = [item(f"bulk{number}")["data"] for number in range(3)]
    job = api.Catalogs.bulk_create_catalog_items(
        {"data": {"type": "catalog-item-bulk-create-job", "attributes": {"items": {"data": told}}}}
    )
    found = done(lambda: api.Catalogs.get_bulk_create_catalog_items_job(job.data.id).data)
    assert (found.total_count, found.completed_count, found.failed_count) == (3, 3, 0)
    soon(lambda: [one for one in codes(api) if one.startswith("bulk")]
         == ["bulk0", "bulk1", "bulk2"])  # fmt: skip


def test_profiles_are_imported_merged_and_erased_by_jobs(api: KlaviyoAPI) -> None:
    told = [
        {"type": "profile", "attributes": {"email": f"{name}@example.com", "first_name": name}}
        for name in ("ann", "anna", "zoe")
    ]
    job = api.Profiles.bulk_import_profiles(
        {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": told}}}}
    ).data
    found = done(lambda: api.Profiles.get_bulk_import_profiles_job(job.id).data)
    assert (found.total_count, found.completed_count, found.failed_count) == (3, 3, 0)
    assert found.created_at == job.attributes.created_at
    other = {"type": "profile", "attributes": {"email": "amy@example.com"}}
    later = api.Profiles.bulk_import_profiles(
        {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": [other]}}}}
    ).data
    soon(lambda: len(api.Profiles.get_bulk_import_profiles_jobs().data) == 2)
    first = api.Profiles.get_bulk_import_profiles_jobs(page_size=1)
    (rest,) = api.Profiles.get_bulk_import_profiles_jobs(
        page_size=1, page_cursor=first.links.next
    ).data
    assert [first.data[0].id, rest.id] == [later.id, job.id]
    assert rest.attributes.completed_count == 3
    with pytest.raises(Exception, match="A job with that id does not exist"):
        api.Profiles.get_bulk_import_profiles_job("agrcko4k33er2i3n7gajn663khlm2hyf")

    def known(name: str) -> str | None:
        found = api.Profiles.get_profiles(filter=f'equals(email,"{name}@example.com")').data
        return found[0].id if found else None

    soon(lambda: all(known(name) for name in ("ann", "anna", "zoe")))
    source, destination = known("anna"), known("ann")
    api.Profiles.merge_profiles(
        {"data": {"type": "profile-merge", "id": destination, "relationships": {"profiles": {
            "data": [{"type": "profile", "id": source}]}}}}
    )  # fmt: skip
    soon(lambda: known("anna") == known("ann"))
    with pytest.raises(Exception, match="A profile with the id 'nobody' does not exist"):
        api.Profiles.merge_profiles(
            {"data": {"type": "profile-merge", "id": destination, "relationships": {"profiles": {
                "data": [{"type": "profile", "id": "nobody"}]}}}}
        )  # fmt: skip
    api.Data_Privacy.request_profile_deletion(
        {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {
            "data": {"type": "profile", "attributes": {"email": "zoe@example.com"}}}}}}
    )  # fmt: skip
    soon(lambda: known("zoe") is None)
