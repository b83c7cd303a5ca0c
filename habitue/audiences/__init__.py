"""Who: conditions on what customers did, are and will do, and the customers who meet them.

A sentence, or Klaviyo's JSON, becomes frozen nodes; nodes become one SQL statement over the lake's
views, as of an instant. Predictions are read from their table, not from the room that makes them.
Read first `language` (sentences and nodes), then `rows`, `comparisons`, `asking` and `compile`
(nodes to SQL), `lookalike`, `words` (conditions in Python), `members` (who is in it, and who came
and went), `aftermath` (what they did next), `templates` and `suggest` (ready conditions, and one
for somebody's words), `saved`, and `live` (membership kept up to date).
"""
