"""Seeing the mistakes of a run: `report.html`, one offline file made of what the run left in its output folder."""
