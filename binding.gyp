{
  "targets": [
    {
      "target_name": "torchbrush",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/torchbrush.node"],
          "action": ["node", "--import", "tsx", "scripts/build-addon.ts", "--out", "<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
