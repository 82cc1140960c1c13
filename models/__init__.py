"""What each model expects, as data; the packs that come with the project; the user's own files.

Importing it keeps ONNX Runtime off the network: since 1.29 its Linux builds send telemetry unless this variable is
set before they are loaded. Nothing here goes to the network; a user who wants it sets the variable to 0.
"""

import os as _os

_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
