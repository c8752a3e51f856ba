"""Results for people: tables now, figures and pages later."""
