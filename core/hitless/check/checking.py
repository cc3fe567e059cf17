"""One check: an engine, all rules, a report."""

from hitless.check.engine import Engine
from hitless.check.judge import Judge
from hitless.check.report import Report
from hitless.check.rules import OutcomeRule, all_rules
from hitless.check.subject import Subject


def check(subject: Subject) -> Report:
    """Every rule over every interleaving of one plan."""
    report = Report()
    rules = all_rules(subject)
    for rule in rules:
        rule.report = report.add
    judge = Judge([rule for rule in rules if isinstance(rule, OutcomeRule)])
    engine = Engine(subject, [judge, *(rule for rule in rules if not isinstance(rule, OutcomeRule))])
    engine.run()
    report.steps, report.facts = len(subject.steps), engine.facts.made + len(engine.links.tables)
    return report
