"""People judge the faces of a result: a page with questions, and what the answers say of people and of methods."""
