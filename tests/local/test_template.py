"""infra/template.yaml by itself; that it works is shown by the stack, which deploys it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from local.provision import TEMPLATE


def test_template_follows_cloudformations_own_rules() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([linter, TEMPLATE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
