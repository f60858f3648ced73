"""What a decision says to a person: one or two sentences, from the same facts as the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.text.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.catalog.catalog import Action, Catalog, Meter
    from sidecar.decisions.model import Facts, Question, Quota, Verdict


def message_about(
    verdict: Verdict,
    *,
    question: Question,
    amounts: Mapping[str, int],
    facts: Facts | None,
    quotas: Mapping[str, Quota],
    lacking: Sequence[str],
    catalog: Catalog,
) -> str:
    """*quotas* are those of the meters that the action takes, *lacking* those of them without room."""
    action = catalog.actions.get(question.action)
    if facts is None or verdict.reason == "not_a_member":
        return "The user is not a member of this workspace."
    if action is None or verdict.reason == "unknown_action":
        return _unknown(question.action, catalog)

    match verdict.reason:
        case "granted":
            return f"{catalog.roles[facts.role].title} may perform {action.name}."
        case "workspace_suspended":
            return "The workspace is suspended."
        case "role_insufficient":
            needed = _listed([catalog.roles[role].title for role in verdict.needs_roles], "or")
            return f"This needs the role {needed}; the user is {catalog.roles[facts.role].title}."
        case "feature_not_in_plan":
            return _without_feature(verdict, action, facts, catalog)
        case "quota_exceeded":
            return " ".join(
                _without_room(catalog.meters[meter], amounts[meter], quotas[meter], facts, catalog)
                for meter in lacking or sorted(quotas)
            )
        case _:
            return f"A rule of the company's own denies this: {verdict.detail}."


def _unknown(action: str, catalog: Catalog) -> str:
    hint = did_you_mean(action, catalog.actions) or "."
    return f'The action "{action}" is not declared{hint}'


def _without_feature(verdict: Verdict, action: Action, facts: Facts, catalog: Catalog) -> str:
    feature = action.feature or ""
    title = catalog.features[feature].title
    if facts.feature_overrides.get(feature) is False:
        return f"{title} is switched off for this workspace."
    plans = [catalog.plans[plan].title for plan in verdict.upgrade]
    with_it = f"; {_listed(plans, 'and')} {'does' if len(plans) == 1 else 'do'}." if plans else "."
    return f"{_plan_in_words(facts, catalog)} does not include {title}{with_it}"


def _without_room(meter: Meter, amount: int, quota: Quota, facts: Facts, catalog: Catalog) -> str:
    if quota.limit is None:  # not reached while the ledger and the policy agree
        return f"There is no room for {_counted(amount, meter)}."
    per = {"month": " a month", "day": " a day"}.get(meter.per or "", "")
    whose = (
        "This workspace has"
        if meter.name in facts.limit_overrides or meter.name in facts.seats
        else f"{_plan_in_words(facts, catalog)} includes"
    )
    held = f", {_are(quota.reserved, 'reserved')}" if quota.reserved else ""
    return (
        f"{whose} {_counted(quota.limit, meter)}{per}; {_are(quota.used, 'used')}{held}"
        f" and {amount} {'was' if amount == 1 else 'were'} asked for."
    )


def _plan_in_words(facts: Facts, catalog: Catalog) -> str:
    plan = catalog.plans.get(facts.plan)
    return f"The {plan.title} plan" if plan else f'The plan "{facts.plan}", which is not sold,'


def _counted(number: int, meter: Meter) -> str:
    title = meter.title.lower() if meter.title[1:].islower() else meter.title  # "API calls" stays
    return f"{number} {title.removesuffix('s') if number == 1 else title}"


def _are(number: int, what: str) -> str:
    return f"{number} {'is' if number == 1 else 'are'} {what}"


def _listed(words: Sequence[str], conjunction: str) -> str:
    *front, last = words
    return f"{', '.join(front)} {conjunction} {last}" if front else last
