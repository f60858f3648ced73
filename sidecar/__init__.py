"""May this user, in this workspace, perform this action now, and if not, why, and what would change that?"""
