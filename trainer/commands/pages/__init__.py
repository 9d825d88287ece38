"""What the HTML pages share: templates, one style sheet, plots."""
